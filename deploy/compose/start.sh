#!/bin/sh
# Make the bucket if it is new, bring the database up to date, serve. All settings come from the environment.
set -eu
python - <<'PYTHON'
import os
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

bucket = os.environ["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://").partition("/")[0]
limits = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 1})
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=limits)
for left in reversed(range(30)):
    try:
        if bucket not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
        break
    except (BotoCoreError, ClientError) as error:
        if not left:
            raise SystemExit(f"the store does not take the bucket {bucket}: {error}") from None
        time.sleep(2)
PYTHON
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port "${PORT:-5000}" --workers "${WORKERS:-2}"
