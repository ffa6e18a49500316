# Usage: python openapi.py FILE
#
# Prints an OpenAPI document as JSON, after "valid" or what is wrong with it.

import json
import sys

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1], encoding="utf-8") as file:
    document = yaml.safe_load(file)

errors = OpenAPIV31SpecValidator(document).iter_errors()
wrong = "; ".join(error.message for error in errors)

print(wrong.replace("\n", " ") or "valid")
print(json.dumps(document))
