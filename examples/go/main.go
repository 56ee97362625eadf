// Publishes and consumes: main publish [TOPIC] [COUNT], and main subscribe [TOPIC] [GROUP] [COUNT].
package main

import (
	"log"
	"os"
	"strconv"

	"google.golang.org/grpc"
)

func main() {
	log.SetFlags(0)
	address := os.Getenv("MILLRACE_ADDRESS")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	// No window is set here: gRPC for Go adapts its windows to the bandwidth. Newer versions prefer
	// grpc.NewClient and insecure.NewCredentials, which do the same.
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	switch argument(1, "") {
	case "publish":
		err = publish(connection, argument(2, "orders"), number(3, 10))
	case "subscribe":
		// 0 records: for ever.
		err = consume(connection, argument(2, "orders"), argument(3, "billing"), number(4, 0))
	default:
		log.Fatal("usage: main publish [TOPIC] [COUNT] | main subscribe [TOPIC] [GROUP] [COUNT]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

func argument(index int, otherwise string) string {
	if len(os.Args) > index {
		return os.Args[index]
	}
	return otherwise
}

func number(index int, otherwise int) int {
	count, err := strconv.Atoi(argument(index, strconv.Itoa(otherwise)))
	if err != nil {
		log.Fatal(err)
	}
	return count
}
