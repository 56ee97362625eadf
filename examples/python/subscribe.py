"""subscribe.py [TOPIC] [GROUP] [COUNT]: prints COUNT records (default: for ever) and acks them."""

import os
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
        # By partition: the record that failed. What lies behind it comes again after it.
        self.failed = {}

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
                # Acks name the lane of their batch, so topics with more than one may send theirs.
                lanes=True,
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
            # A partition that has moved begins where the group is by now, not at the record that failed here.
            self.failed.clear()
            print("partitions:", *(p.partition for p in event.assigned.partitions), flush=True)
        elif kind == "batch":
            self.work(event.batch, event.generation)
        elif kind == "revoking":
            # Acking what is in flight, as above, is all that is needed.
            print("leaving partitions:", *(p.partition for p in event.revoking.partitions), flush=True)
        elif kind == "idle":
            reason = broker_pb2.BlockedOn.Name(event.idle.blocked_on)
            print(f"idle: {reason}, lag {event.idle.lag}", flush=True)
        elif kind == "gap":
            # The retention of the topic has dropped records that the group had not acked.
            print(f"records {event.gap.first} to {event.gap.last} are gone", flush=True)
        elif kind == "draining":
            print("the broker is going away; subscribing again when it ends the stream", flush=True)

    def work(self, batch, generation):
        """Handles a batch in its order, as far as that goes, and tells the broker how far it went."""
        records, first = batch.records, batch.records[0].offset
        # It was under way when a record before it failed, and comes again behind that one: the order holds.
        if first > self.failed.get(batch.partition, first):
            return
        self.failed.pop(batch.partition, None)
        handled = 0
        try:
            for delivered in records:
                self.handle(f"{batch.topic}/{batch.partition}", delivered)
                handled += 1
        except Exception as error:
            print("failed:", error, flush=True)
        self.wanted -= handled
        place = {"topic": batch.topic, "partition": batch.partition, "lane": batch.lane}
        acks = []
        if handled > 0:
            done = record_pb2.OffsetRange(first=first, last=records[handled - 1].offset)
            acks.append(broker_pb2.AckEntry(ranges=[done], **place))
        if handled < len(records):
            self.failed[batch.partition] = offset = records[handled].offset
            acks.append(broker_pb2.AckEntry(action=broker_pb2.ACK_ACTION_NACK, offsets=[offset], **place))
        self.ack(acks, generation)

    def handle(self, where, delivered):
        """Your work. It may see a record again, after a crash for instance, so it should not mind."""
        record, value = delivered.record, delivered.record.value.decode()
        print(f"{where} {delivered.offset} (attempt {delivered.attempt}) {record.key}: {value}", flush=True)
        if value == os.environ.get("FAIL_ONCE") and delivered.attempt == 1:
            raise ValueError(f'"{value}" fails once, as was asked for')

    def ack(self, acks, generation):
        """What is handled is acked by a range, what failed gets a NACK. An ack by up_to_offset would speak
        for everything before it as well; after a failure the broker rejects it (UNKNOWN_OFFSET)."""
        response = self.broker.Ack(
            broker_pb2.AckRequest(
                group=self.group, member_id=self.member_id, generation=generation, acks=acks
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
