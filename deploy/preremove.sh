#!/bin/sh
# Before the package is removed, but not when another version takes its place: dpkg says upgrade then, and rpm 1.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now holdpost.service
	fi
	;;
esac
