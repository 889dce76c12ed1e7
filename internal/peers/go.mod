module github.com/part164/part164/internal/peers

go 1.26.0

require github.com/part164/part164 v0.0.0

replace github.com/part164/part164 => ../..
