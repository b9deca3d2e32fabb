"""Limits for messages, headers and open files."""

from __future__ import annotations

import logging
import resource

MIB = 1 << 20

MAX_MESSAGE_BYTES = 128 * MIB
"""Largest request that the server takes. A request carries the result's metadata and attestations, and SBOMs
of several platforms come to tens of MiB; it never contains layers. It is limited, because
a whole message is held in memory."""

MAX_SEND_BYTES = 128 * MIB
"""Largest answer. A descriptor can embed its blob (``data``), nothing else in an answer is large."""

METADATA_SOFT_BYTES = 512 << 10
METADATA_HARD_BYTES = 1 * MIB
"""Headers and trailers. A session announces each of its methods, a file transfer carries response keys (a
descriptor with all its annotations in base64), and gRPC puts error texts there. Beyond the hard limit, and at
random from the soft one on, gRPC resets the stream; its defaults are 16 and 8 KiB."""

PEER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_SEND_BYTES),
    ("grpc.max_metadata_size", METADATA_SOFT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_HARD_BYTES),
)
"""Channel options for endpoints."""

logger = logging.getLogger(__name__)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit. The usual 1024 is only for users of `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            logger.debug("cannot raise the limit of open files from %d to %d", soft, hard)
