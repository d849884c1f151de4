"""etcd: a supervised child process, and the store on its protocol. Nobody else imports its client."""

import os

# We start etcd by fork and exec while gRPC runs; its fork handlers would only complain about that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
