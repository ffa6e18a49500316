# Of the commands that make -n prints, those that compile our sources, in the
# form of compile_commands.json. `dir` is where they are to be run.

BEGIN {
    print "["
}

{
    command = command $0

    if (sub(/\\$/, " ", command)) {
        next                                   # goes on in the next line
    }

    gsub(/[ \t]+/, " ", command)
    sub(/ $/, "", command)
    source = command
    sub(/.* /, "", source)

    if (command ~ / -c / && source ~ /\/(ngx_http_)?kv_[^\/]*\.c$/ \
        || source ~ /\/ngx_http_kv_module\.c$/)
    {
        printf "%s{\"directory\": %s,\n \"command\": %s,\n \"file\": %s}",
               comma, quoted(dir), quoted(command), quoted(source)
        comma = ",\n"
    }

    command = ""
}

END {
    print "\n]"
}


function quoted(text)
{
    gsub(/\\/, "\\\\", text)
    gsub(/"/, "\\\"", text)
    return "\"" text "\""
}
