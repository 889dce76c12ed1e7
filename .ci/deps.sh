#!/usr/bin/env bash
# deps.sh: prints the modules that each package of this module links into a
# program, tests left out. The checked-in list is .ci/deps.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOOS=linux GOARCH=amd64 CGO_ENABLED=0 LC_ALL=C
go list -deps -f '{{.ImportPath}}	{{with .Module}}{{.Path}}	{{.Version}}{{end}}	{{join .Deps " "}}' ./... |
	awk -F '\t' '
		NF == 4 && $3 != "" { module[$1] = $2 " " $3 }
		NF == 4 && $3 == "" { deps[$1] = $4 }
		END {
			for (p in deps) {
				print p
				n = split(deps[p], d, " ")
				for (i = 1; i <= n; i++)
					if (d[i] in module && !((p, module[d[i]]) in seen)) {
						seen[p, module[d[i]]]
						print p "  " module[d[i]]
					}
			}
		}' | sort
