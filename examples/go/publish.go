package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"

	millrace "millrace/v1"
)

// publish makes the topic if need be and publishes records in one request, which is one transaction: all
// of them or none. Records of one key stay in order.
func publish(connection *grpc.ClientConn, topic string, count int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := createTopic(ctx, connection, topic); err != nil {
		return err
	}
	request := &millrace.PublishRequest{Topic: topic}
	for i := 0; i < count; i++ {
		request.Records = append(request.Records, &millrace.Record{
			Key:     fmt.Sprintf("customer-%d", i%3),
			Value:   []byte(fmt.Sprintf("order %d", i)),
			Headers: map[string]string{"type": "OrderPlaced"},
			// Makes it safe to send this request again when its outcome is unknown.
			IdempotencyKey: fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixNano(), i),
		})
	}
	response, err := millrace.NewBrokerServiceClient(connection).Publish(ctx, request)
	if err != nil {
		return err
	}
	for _, result := range response.GetResults() {
		fmt.Printf("published to %s/%d at %d\n", topic, result.GetPartition(), result.GetOffset())
	}
	return nil
}

func createTopic(ctx context.Context, connection *grpc.ClientConn, topic string) error {
	request := &millrace.CreateTopicRequest{Topic: &millrace.Topic{Name: topic, Partitions: 6}}
	_, err := millrace.NewTopicServiceClient(connection).CreateTopic(ctx, request)
	if err != nil && reason(err) == "TOPIC_EXISTS" {
		fmt.Printf("%s: publishing to the topic that exists\n", reason(err))
		return nil
	}
	return err
}
