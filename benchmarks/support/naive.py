"""The simplest worker, to compare ours with: one message at a time.

Each of ten threads receives a message and downloads its image with ``requests``. It prepares the
image with OpenCLIP's own transform, embeds image and name under one lock, and combines them. Then
it upserts a row into Milvus, indexes a document, commits a history row and deletes the message.
It wastes no time: clients are made once and shared (a database connection per thread), and only the
model runs under the lock. It ignores order, duplicates, addresses and limits.

Read from the environment: ``SQS_QUEUE_URL``, ``AWS_ENDPOINT_URL``, ``DATABASE_URL`` (libpq),
``MILVUS_URI``, ``ELASTICSEARCH_URL``, ``OPENCLIP_CONFIG``, ``OPENCLIP_PRETRAINED``, ``THREADS``,
``NAIVE_NAME`` (the Milvus collection and the index).
"""

import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import open_clip
import psycopg
import requests
import torch
import torch.nn.functional as functional
from elasticsearch import Elasticsearch
from PIL import Image
from pymilvus import DataType, MilvusClient

COLLECTION = INDEX = os.environ.get("NAIVE_NAME", "naive")
VECTOR_FIELDS = ("text_embedding", "image_embedding", "combined_embedding")
THREADS = int(os.environ.get("THREADS", "10"))


class Model:
    def __init__(self, config: Path, weights: str) -> None:
        open_clip.add_model_config(config)
        name = config.stem
        model, _, self._transform = open_clip.create_model_and_transforms(name, pretrained=weights)
        self._model = model.eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self._lock = threading.Lock()

    def embed(self, image: Image.Image, name: str) -> list[list[float]]:
        """Return text, image and combined embedding, of unit length."""
        pixels = self._transform(image).unsqueeze(0)
        tokens = self._tokenizer([name])
        with self._lock, torch.no_grad():
            images = self._model.encode_image(pixels)
            texts = self._model.encode_text(tokens)
        images, texts = functional.normalize(images), functional.normalize(texts)
        combined = functional.normalize(images + texts)
        return [rows[0].tolist() for rows in (texts, images, combined)]


class Worker:
    def __init__(self) -> None:
        self.queue_url = os.environ["SQS_QUEUE_URL"]
        self.sqs = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        self.model = Model(Path(os.environ["OPENCLIP_CONFIG"]), os.environ["OPENCLIP_PRETRAINED"])
        self.milvus = MilvusClient(os.environ["MILVUS_URI"])
        self.elasticsearch = Elasticsearch(os.environ["ELASTICSEARCH_URL"])
        self.local = threading.local()

    def set_up(self) -> None:
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("name", DataType.VARCHAR, max_length=65_535)
        schema.add_field("price", DataType.DOUBLE)
        schema.add_field("image_url", DataType.VARCHAR, max_length=65_535)
        indexes = MilvusClient.prepare_index_params()
        for field in VECTOR_FIELDS:
            schema.add_field(field, DataType.FLOAT_VECTOR, dim=768)
            indexes.add_index(field, index_type="AUTOINDEX", metric_type="COSINE")
        if not self.milvus.has_collection(COLLECTION):
            self.milvus.create_collection(COLLECTION, schema=schema, index_params=indexes)
        if not self.elasticsearch.indices.exists(index=INDEX):
            self.elasticsearch.indices.create(index=INDEX)
        self.database().execute(
            "CREATE TABLE IF NOT EXISTS history (product_id text, observed_at timestamptz,"
            " price double precision, rating double precision, reviews_count bigint)"
        )
        self.database().commit()

    def database(self) -> psycopg.Connection[Any]:
        if not hasattr(self.local, "connection"):
            self.local.connection = psycopg.connect(os.environ["DATABASE_URL"])
        connection: psycopg.Connection[Any] = self.local.connection
        return connection

    def consume(self, number: int) -> None:
        print(f"Thread {number} started consuming from SQS...", flush=True)
        while True:
            reply = self.sqs.receive_message(
                QueueUrl=self.queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=10
            )
            for message in reply.get("Messages", []):
                try:
                    product_id = self.process(json.loads(message["Body"]))
                except Exception as error:
                    print(f"Thread {number} failed: {error!r}", flush=True)
                    continue
                self.sqs.delete_message(
                    QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"]
                )
                print(f"Thread {number} processed ID: {product_id}", flush=True)

    def process(self, product: dict[str, Any]) -> str:
        response = requests.get(product["image_url"], timeout=60)
        response.raise_for_status()
        image = Image.open(io.BytesIO(response.content)).convert("RGB")
        embeddings = self.model.embed(image, product["name"])
        row = {
            "id": product["id"],
            "name": product["name"],
            "price": float(product["price"]),
            "image_url": product["image_url"],
        }
        self.milvus.upsert(COLLECTION, [row | dict(zip(VECTOR_FIELDS, embeddings, strict=True))])
        self.elasticsearch.index(index=INDEX, id=product["id"], document=row)
        connection = self.database()
        connection.execute(
            "INSERT INTO history VALUES (%s, %s, %s, %s, %s)",
            (
                *(product["id"], datetime.now(UTC), row["price"]),
                *(float(product["rating"]), int(product["reviews_count"])),
            ),
        )
        connection.commit()
        return str(row["id"])


def main() -> None:
    worker = Worker()
    worker.set_up()
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(worker.consume, n + 1) for n in range(THREADS)]:
            done.result()


if __name__ == "__main__":
    main()
