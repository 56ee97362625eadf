package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millrace "millrace/v1"
)

type consumer struct {
	broker       millrace.BrokerServiceClient
	topic, group string
	// 0: no limit.
	wanted, seen int
	memberID     string
}

// consume prints and acks records until it has seen enough. It subscribes again when the stream breaks.
func consume(connection *grpc.ClientConn, topic, group string, wanted int) error {
	c := &consumer{broker: millrace.NewBrokerServiceClient(connection), topic: topic, group: group, wanted: wanted}
	wait := 100 * time.Millisecond
	for !c.done() {
		err := c.subscribe()
		switch status.Code(err) {
		case codes.OK:
			wait = 100 * time.Millisecond
		case codes.Unavailable, codes.Aborted:
			// UNAVAILABLE: the broker or its database is away for now. ABORTED: this member was replaced or
			// removed. Subscribe again, as a new member; the broker delivers again what was not acked.
			fmt.Printf("%s: %v; again in %v\n", reason(err), err, wait)
			time.Sleep(wait)
			if wait *= 2; wait > 5*time.Second {
				wait = 5 * time.Second
			}
		default:
			return err
		}
	}
	return nil
}

func (c *consumer) done() bool { return c.wanted > 0 && c.seen >= c.wanted }

// subscribe reads one stream, until it ends or enough has come. Cancelling its context ends the stream.
func (c *consumer) subscribe() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	earliest := &millrace.StartPosition_Earliest_{Earliest: &millrace.StartPosition_Earliest{}}
	stream, err := c.broker.Subscribe(ctx, &millrace.SubscribeRequest{
		Group:              c.group,
		Topics:             []string{c.topic},
		Start:              &millrace.StartPosition{Position: earliest},
		MaxInFlightRecords: 1000,
	})
	if err != nil {
		return err
	}
	for !c.done() {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.take(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

func (c *consumer) take(ctx context.Context, response *millrace.SubscribeResponse) error {
	switch event := response.Event.(type) {
	case *millrace.SubscribeResponse_Joined:
		c.memberID = event.Joined.GetMemberId()
		fmt.Printf("joined as %s\n", c.memberID)
	case *millrace.SubscribeResponse_Assigned:
		fmt.Printf("partitions:%s\n", numbers(event.Assigned.GetPartitions()))
	case *millrace.SubscribeResponse_Batch:
		c.handle(event.Batch)
		c.seen += len(event.Batch.GetRecords())
		return c.ack(ctx, event.Batch, response.GetGeneration())
	case *millrace.SubscribeResponse_Revoking:
		// Acking what is in flight, as above, is all that is needed.
		fmt.Printf("leaving partitions:%s\n", numbers(event.Revoking.GetPartitions()))
	case *millrace.SubscribeResponse_Idle:
		fmt.Printf("idle: %s, lag %d\n", event.Idle.GetBlockedOn(), event.Idle.GetLag())
	case *millrace.SubscribeResponse_Gap:
		// The retention of the topic has dropped records that the group had not acked.
		fmt.Printf("records %d to %d are gone\n", event.Gap.GetFirst(), event.Gap.GetLast())
	case *millrace.SubscribeResponse_Draining:
		fmt.Println("the broker is going away; subscribing again when it ends the stream")
	}
	return nil
}

// handle is your work. It may see a record again after a crash.
func (c *consumer) handle(batch *millrace.Batch) {
	for _, delivered := range batch.GetRecords() {
		record := delivered.GetRecord()
		fmt.Printf("%s/%d %d (attempt %d) %s: %s\n", batch.GetTopic(), batch.GetPartition(),
			delivered.GetOffset(), delivered.GetAttempt(), record.GetKey(), record.GetValue())
	}
}

// ack names exactly the records of the batch. Partition and lane are pointers: an unset one is not 0.
func (c *consumer) ack(ctx context.Context, batch *millrace.Batch, generation int64) error {
	entry := &millrace.AckEntry{Topic: batch.GetTopic(), Partition: batch.Partition, Lane: batch.Lane}
	for _, delivered := range batch.GetRecords() {
		entry.Offsets = append(entry.Offsets, delivered.GetOffset())
	}
	response, err := c.broker.Ack(ctx, &millrace.AckRequest{
		Group: c.group, MemberId: c.memberID, Generation: &generation, Acks: []*millrace.AckEntry{entry},
	})
	if err != nil {
		return err
	}
	for _, result := range response.GetResults() {
		// The partition has moved to another member meanwhile, which gets the records again.
		if result.GetStatus() != millrace.AckStatus_ACK_STATUS_OK {
			fmt.Printf("ack refused: %s\n", result.GetStatus())
		}
	}
	return nil
}

func numbers(partitions []*millrace.TopicPartition) string {
	var text strings.Builder
	for _, partition := range partitions {
		fmt.Fprintf(&text, " %d", partition.GetPartition())
	}
	return text.String()
}
