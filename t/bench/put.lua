-- For wrk: PUT of 100 bytes over 100,000 keys, each thread at its own part.

local threads = 0

function setup(thread)
    thread:set("first", threads * 50000)
    threads = threads + 1
end

local body = string.rep("x", 100)
local n = 0

function request()
    n = n + 1
    return "PUT /kv/b" .. (first + n % 50000) .. " HTTP/1.1\r\n" ..
           "Host: localhost\r\nContent-Length: 100\r\n\r\n" .. body
end
