#!/bin/sh
# An agent in plain shell. curl speaks to the control plane; Perl, which every Debian has, accepts the connections in one line.
plane=${AGENTFIELD_SERVER:-http://localhost:8080} port=${PORT:-9200} LC_ALL=C; export LC_ALL
tell() { curl -sf --retry 9 --retry-all-errors -X POST "$plane/api/v1/$1" -H "X-Execution-Token: $token" -d "$2"; }
reply() { printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' "$1" "${#2}" "$2"; }
decide() { # asks a person, waits without a limit, and reports what they said
  tell "executions/$id/request-approval" "{\"title\":\"May I?\",\"payload\":$body}"
  until said=$(curl -sf "$plane/api/v1/executions/$id/approval-status?wait=30s") && [ "${said#*pending}" = "$said" ]; do sleep 1; done
  tell "executions/$id/status" "{\"status\":\"succeeded\",\"result\":$said}"
}
if [ "$1" = answer ]; then # one request on the standard input, its answer on the standard output
  read -r _ path _
  while read -r name value && [ "${#name}" -gt 1 ]; do case $name in *ength:) length=${value%?};; X-Execution-I[dD]:) id=${value%?};; *oken:) token=${value%?};; esac; done
  body=$(head -c "${length:-0}")
  case "$path $body" in /status*) reply '200 OK' '{"status":"running"}';; *"/cancel "*) reply '200 OK' '{"cancelled":false}';;
    /reasoners/greet\ {*}) reply '200 OK' "{\"greeting\":\"Hello!\",\"you_said\":$body}";; /reasoners/decide\ {*}) decide >/dev/null 2>&1 & reply '202 Accepted' '{}';;
    /reasoners/greet*|/reasoners/decide*) reply '400 Bad Request' '{"error":"the input is no JSON object"}';; *) reply '404 Not Found' '{"error":"unknown"}';; esac; exit; fi
tell nodes/register "{\"id\":\"shell-agent\",\"base_url\":\"http://127.0.0.1:$port\",\"reasoners\":[{\"id\":\"greet\"},{\"id\":\"decide\"}]}" &
exec perl -MIO::Socket -e '$s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1:$ARGV[0]",Listen=>99,ReuseAddr=>1) or die $!; $SIG{CHLD}="IGNORE";
  for(;;){$c=$s->accept or next; fork or do{open STDIN,"<&",$c; open STDOUT,">&",$c; exec "sh",$ARGV[1],"answer"}; close $c}' "$port" "$0"
