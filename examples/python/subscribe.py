"""subscribe.py [TOPIC] [GROUP] [COUNT]: prints COUNT records (default: for ever) and acks them."""

import sys
import time

from client import connect, reason

import grpc
from millrace.v1 import broker_pb2, broker_pb2_grpc, record_pb2


class Consumer:
    def __init__(self, channel, topic, group, wanted):
        self.broker = broker_pb2_grpc.BrokerServiceStub(channel)
        self.topic, self.group, self.wanted = topic, group, wanted
        self.member_id = ""

    def run(self):
        """Streams until enough has come; subscribes again when the stream breaks."""
        wait = 0.1
        while self.wanted > 0:
            try:
                self.subscribe()
                wait = 0.1
            except grpc.RpcError as error:
                # UNAVAILABLE: the broker or its database is away for now. ABORTED: this member was replaced or
                # removed. Both mean to subscribe again, as a new member; what was not acked comes again.
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED):
                    raise
                print(f"{reason(error)}: {error.details()}; again in {wait:.1f} s", flush=True)
                time.sleep(wait)
                wait = min(wait * 2, 5)

    def subscribe(self):
        """One stream, until it ends or enough has come."""
        stream = self.broker.Subscribe(
            broker_pb2.SubscribeRequest(
                group=self.group,
                topics=[self.topic],
                start=record_pb2.StartPosition(earliest=record_pb2.StartPosition.Earliest()),
                max_in_flight_records=1000,
            )
        )
        for event in stream:
            self.take(event)
            if self.wanted <= 0:
                stream.cancel()
                return

    def take(self, event):
        kind = event.WhichOneof("event")
        if kind == "joined":
            self.member_id = event.joined.member_id
            print(f"joined as {self.member_id}", flush=True)
        elif kind == "assigned":
            print("partitions:", *(p.partition for p in event.assigned.partitions), flush=True)
        elif kind == "batch":
            self.handle(event.batch)
            self.ack(event.batch, event.generation)
            self.wanted -= len(event.batch.records)
        elif kind == "revoking":
            # Acking what is in flight, as above, is all that is needed.
            print("leaving partitions:", *(p.partition for p in event.revoking.partitions), flush=True)
        elif kind == "idle":
            reason = broker_pb2.BlockedOn.Name(event.idle.blocked_on)
            print(f"idle: {reason}, lag {event.idle.lag}", flush=True)
        elif kind == "draining":
            print("the broker is going away; subscribing again when it ends the stream", flush=True)

    def handle(self, batch):
        """Your work. It may see a record again after a crash, so it should not mind."""
        for delivered in batch.records:
            record = delivered.record
            where = f"{batch.topic}/{batch.partition} {delivered.offset} (attempt {delivered.attempt})"
            print(f"{where} {record.key}: {record.value.decode()}", flush=True)

    def ack(self, batch, generation):
        """Names exactly the records of the batch, in one entry with its partition and lane."""
        entry = broker_pb2.AckEntry(
            topic=batch.topic,
            partition=batch.partition,
            lane=batch.lane,
            offsets=[delivered.offset for delivered in batch.records],
        )
        response = self.broker.Ack(
            broker_pb2.AckRequest(
                group=self.group, member_id=self.member_id, generation=generation, acks=[entry]
            )
        )
        for result in response.results:
            # The partition has moved to another member meanwhile, which gets the records again.
            if result.status != broker_pb2.ACK_STATUS_OK:
                print("ack refused:", broker_pb2.AckStatus.Name(result.status), flush=True)


if __name__ == "__main__":
    topic, group, count = (sys.argv[1:] + ["orders", "billing", "inf"][len(sys.argv) - 1 :])[:3]
    with connect() as channel:
        Consumer(channel, topic, group, float(count)).run()
