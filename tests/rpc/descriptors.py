"""Write the descriptors of Firestore's messages anew, of the google-cloud-firestore that is installed.

python -m tests.rpc.descriptors
"""

from __future__ import annotations

from pathlib import Path

from google.cloud.firestore_v1 import types
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

import firestore_flowstate

KEPT = Path(firestore_flowstate.__file__).parent / "_rpc" / "firestore_v1.binpb"


def installed() -> FileDescriptorSet:
    """Return the files that Firestore's requests and replies need, each behind those that it imports."""
    files: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in files:
            for dependency in file.dependencies:
                add(dependency)
            file.CopyToProto(files.setdefault(file.name, FileDescriptorProto()))

    add(types.CommitRequest.pb().DESCRIPTOR.file)  # which has all other requests and replies, too
    return FileDescriptorSet(file=files.values())


if __name__ == "__main__":
    KEPT.write_bytes(installed().SerializeToString())
