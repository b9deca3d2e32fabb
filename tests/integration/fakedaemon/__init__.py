"""A daemon for tests, in a process of its own, and the server that it talks to, in another.

- `daemon` is the daemon's program: it takes commands as JSON lines, calls the exporter's service, and serves
  refs, blobs and files through sessions, with faults where a test wants them;
- `exporters` are kinds of output for tests; the server finds them as it finds every plugin;
- `harness` starts and watches both processes.
"""
