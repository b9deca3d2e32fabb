module buildkit-exporter/bench

go 1.19
