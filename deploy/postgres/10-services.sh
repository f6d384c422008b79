#!/bin/bash
# Makes a database and two roles per service at the first start: the owner changes tables, the app only rows.
set -euo pipefail

for service in invoicing payments dunning notifications analytics; do
	owner_password="${service^^}_OWNER_PASSWORD"
	app_password="${service^^}_APP_PASSWORD"
	psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
		--set service="$service" --set owner="${service}_owner" --set app="${service}_app" \
		--set owner_password="${!owner_password:?}" --set app_password="${!app_password:?}" <<-'SQL'
		CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
		CREATE ROLE :"app" LOGIN PASSWORD :'app_password';
		CREATE DATABASE :"service" OWNER :"owner";
		REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
		GRANT CONNECT, TEMPORARY ON DATABASE :"service" TO :"app";
	SQL
done
