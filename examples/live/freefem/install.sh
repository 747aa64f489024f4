#!/bin/sh
# Installs FreeFEM from Debian's or Ubuntu's own packages and computes two frames with it. Run as root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends freefem++
FreeFem++ -nw -v 0 "$here/cavity.edp" -Re 100 -steps 2 -points 5 -cells 8 | grep -q '^end$'
echo "FreeFEM works: $(command -v FreeFem++)"
