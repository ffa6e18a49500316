-- For wrk: writes, or reads and writes mixed, over many keys.
--
--     wrk ... -s load.lua URL -- OP SIZE KEYS STRIDE PUT-PATH GET-PATH
--
-- OP is put, get or mix (nine reads to a write). A path has a %d, as
-- string.format() knows it, for the key's number: one of KEYS multiples of
-- STRIDE. Requests are prepared, so that wrk only copies them. At the end it
-- prints the 99.9th percentile of the latencies, in microseconds.

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

local puts, gets, pattern = {}, {}, {}
local n, count = 0, 0

function init(args)
    local op, size, keys = args[1], tonumber(args[2]), tonumber(args[3])
    local stride = tonumber(args[4])
    local body = string.rep("x", size)

    for i = 1, keys do
        local key = (i - 1) * stride

        if op ~= "get" then
            puts[i] = "PUT " .. string.format(args[5], key) .. " HTTP/1.1\r\n"
                      .. "Host: localhost\r\nContent-Length: " .. size
                      .. "\r\n\r\n" .. body
        end

        if op ~= "put" then
            gets[i] = "GET " .. string.format(args[6], key) .. " HTTP/1.1\r\n"
                      .. "Host: localhost\r\n\r\n"
        end
    end

    for i = 1, 10 do
        pattern[i] = (op == "put" or op == "mix" and i == 10) and puts or gets
    end

    -- the threads are not to write the same key at once
    n = math.floor(keys / 2) * number
    count = keys
end

function request()
    n = n + 1
    return pattern[n % 10 + 1][n % count + 1]
end

function done(summary, latency)
    io.write(string.format("p99.9 %d\n", latency:percentile(99.9)))
end
