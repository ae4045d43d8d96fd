"""An S3 server (moto) on loopback with the files of a directory in its bucket.

moto_server.py DIR: puts DIR's files into s3://bucket/NAME/…, NAME being DIR's
name, prints "port N", and serves until standard input ends. A line there has
the last object written anew with one byte more. Prints why, and ends, where
moto is not installed.
"""

import os
import sys
from pathlib import Path

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as error:
    print(f"not installed: {error}", flush=True)
    sys.exit(0)

import logging

logging.getLogger("werkzeug").setLevel(logging.ERROR)
directory = Path(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
os.environ["NO_PROXY"] = "127.0.0.1"
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{port}",
    region_name="us-east-1",
    aws_access_key_id="k",
    aws_secret_access_key="s",
)
s3.create_bucket(Bucket="bucket")
files = sorted(path for path in directory.rglob("*") if path.is_file())
for path in files:
    s3.put_object(Bucket="bucket", Key=path.relative_to(directory.parent).as_posix(), Body=path.read_bytes())
print(f"port {port}", flush=True)
for _ in sys.stdin:
    path = files[-1]
    s3.put_object(Bucket="bucket", Key=path.relative_to(directory.parent).as_posix(), Body=path.read_bytes() + b"\0")
server.stop()
