#!/bin/sh
# For how long the machine runs, in seconds: nsp daemon --function System.Uptime=uptime.sh, then nsp call System Uptime
cut -d. -f1 /proc/uptime
