"""publish.py [TOPIC] [COUNT]: makes the topic if need be and publishes COUNT records."""

import sys
import uuid

from client import connect, reason

import grpc
from millrace.v1 import broker_pb2, broker_pb2_grpc, record_pb2, topic_pb2, topic_pb2_grpc


def main(topic="orders", count="10"):
    with connect() as channel:
        try:
            new_topic = topic_pb2.Topic(name=topic, partitions=6)
            topic_pb2_grpc.TopicServiceStub(channel).CreateTopic(topic_pb2.CreateTopicRequest(topic=new_topic))
        except grpc.RpcError as error:
            if reason(error) != "TOPIC_EXISTS":
                raise
            print(f"{reason(error)}: publishing to the topic that exists")

        # One request is one transaction: all of these records or none. Those of one key stay in order.
        records = [
            record_pb2.Record(
                key=f"customer-{i % 3}",
                value=f"order {i}".encode(),
                headers={"type": "OrderPlaced"},
                # Makes it safe to run this request again when its outcome is unknown.
                idempotency_key=str(uuid.uuid4()),
            )
            for i in range(int(count))
        ]
        broker = broker_pb2_grpc.BrokerServiceStub(channel)
        response = broker.Publish(broker_pb2.PublishRequest(topic=topic, records=records))
        for result in response.results:
            print(f"published to {topic}/{result.partition} at {result.offset}")


if __name__ == "__main__":
    main(*sys.argv[1:])
