#!/bin/bash
# Usage: scripts/lc/run.sh [--port=N] [--working-dir=DIR]
#
# How the tool lc starts the server: run "lc test http-api" in this folder.

exec "$(dirname -- "$(readlink -f -- "$0")")/../run.sh" "$@"
