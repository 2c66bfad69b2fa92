"""A secret in every form in which an address or a message may hold one, to be looked for where it must not come."""

SECRET = "pl4nted-Secret"  # noqa: S105 -- none of anybody's
ENCODED = "pl4nted%2DSecret"

REPOSITORIES = (
    f"https://user:{SECRET}@127.0.0.1:9/x.git",
    f"https://{SECRET}@127.0.0.1:9/x.git",
    f"https://x-access-token:{SECRET}@127.0.0.1:9/x.git",
    f"https://oauth2:{ENCODED}@127.0.0.1:9/x.git",
    f"http://user:a/b@{SECRET}@127.0.0.1:9/x.git",
    f"ssh://git:{SECRET}@127.0.0.1:9/x.git",
    f"https://127.0.0.1:9/x.git?private_token={SECRET}",
    f"https://127.0.0.1:9/x.git?a=b&sig={ENCODED}",
    f"https://127.0.0.1:9/?to=https%3A%2F%2Fuser%3A{SECRET}%40host%2Fx.git",
)
TEXTS = (
    *REPOSITORIES,
    f"fatal: unable to access 'https://{SECRET}@host/x.git/': Could not resolve host",
    f"GET https://bucket.s3.amazonaws.com/a?X-Amz-Date=1&X-Amz-Credential={SECRET}%2F20&X-Amz-Signature={SECRET}",
    f"https://account.blob.core.windows.net/a?sv=2022&sp=r&sig={SECRET}%3D&se=1",
    f"https://host/a?X%2DAmz%2DSecurity%2DToken={SECRET}",
    f"next=https%3A%2F%2Fhost%2Fa%3Ftoken%3D{SECRET}%26page%3D1",
    f'{{"url": "https://host/a?page=1\\u0026access_token={SECRET}"}}',
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
    f"{{'Authorization': 'Bearer {SECRET}'}}",
    f"PRIVATE-TOKEN: {SECRET}",
    f"postgresql+psycopg2://user:{SECRET}@host/database",
)


def is_in(text: str) -> bool:
    """Whether a text tells the secret, escaped or not."""
    return SECRET in text or ENCODED in text
