#!/bin/sh
# After the package was unpacked: the user that the unit runs as. The server is not started, since it has to be told first who may
# reach it; one that runs is restarted.
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers holdpost.conf
elif ! getent passwd holdpost >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/holdpost --shell /usr/sbin/nologin holdpost
fi
chgrp holdpost /etc/holdpost
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart holdpost.service
fi
