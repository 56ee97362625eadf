import com.millrace.v1.AckEntry;
import com.millrace.v1.AckRequest;
import com.millrace.v1.AckResult;
import com.millrace.v1.AckStatus;
import com.millrace.v1.Batch;
import com.millrace.v1.BrokerServiceGrpc;
import com.millrace.v1.DeliveredRecord;
import com.millrace.v1.StartPosition;
import com.millrace.v1.SubscribeRequest;
import com.millrace.v1.SubscribeResponse;
import com.millrace.v1.TopicPartition;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.List;
import java.util.stream.Collectors;

/** Prints and acks records until it has seen enough. */
final class Consumer {
  private static final long FIRST_WAIT_MS = 100;

  private final BrokerServiceGrpc.BrokerServiceBlockingStub broker;
  private final String topic;
  private final String group;
  private long wanted;
  private String memberId = "";

  Consumer(Channel channel, String topic, String group, long wanted) {
    this.broker = BrokerServiceGrpc.newBlockingStub(channel);
    this.topic = topic;
    this.group = group;
    this.wanted = wanted;
  }

  /** Streams until enough has come; subscribes again when the stream breaks. */
  void run() throws InterruptedException {
    long waitMs = FIRST_WAIT_MS;
    while (wanted > 0) {
      try {
        subscribe();
        waitMs = FIRST_WAIT_MS;
      } catch (StatusRuntimeException error) {
        switch (error.getStatus().getCode()) {
          case UNAVAILABLE: // The broker or its database is away for now.
          case ABORTED: // This member was replaced or removed.
            // Subscribe again, as a new member; the broker delivers again what was not acked.
            System.out.printf("%s: %s; again in %d ms%n", Reason.of(error), error.getMessage(), waitMs);
            Thread.sleep(waitMs);
            waitMs = Math.min(waitMs * 2, 5_000);
            break;
          default:
            throw error;
        }
      }
    }
  }

  /**
   * One stream, until it ends or enough has come. A blocking stream is ended by cancelling the context
   * that it was started in: leaving the loop alone keeps the stream, and its member in the group.
   */
  private void subscribe() {
    Context.CancellableContext context = Context.current().withCancellation();
    Context previous = context.attach();
    Iterator<SubscribeResponse> events;
    try {
      events = broker.subscribe(request());
    } finally {
      context.detach(previous);
    }
    try {
      while (wanted > 0 && events.hasNext()) {
        take(events.next());
      }
    } finally {
      context.cancel(null);
    }
  }

  private SubscribeRequest request() {
    StartPosition.Earliest earliest = StartPosition.Earliest.getDefaultInstance();
    return SubscribeRequest.newBuilder()
        .setGroup(group)
        .addTopics(topic)
        .setStart(StartPosition.newBuilder().setEarliest(earliest))
        .setMaxInFlightRecords(1000)
        .build();
  }

  private void take(SubscribeResponse event) {
    switch (event.getEventCase()) {
      case JOINED:
        memberId = event.getJoined().getMemberId();
        System.out.printf("joined as %s%n", memberId);
        break;
      case ASSIGNED:
        System.out.printf("partitions: %s%n", numbers(event.getAssigned().getPartitionsList()));
        break;
      case BATCH:
        handle(event.getBatch());
        ack(event.getBatch(), event.getGeneration());
        wanted -= event.getBatch().getRecordsCount();
        break;
      case REVOKING:
        // Acking what is in flight, as above, is all that is needed.
        System.out.printf("leaving partitions: %s%n", numbers(event.getRevoking().getPartitionsList()));
        break;
      case IDLE:
        System.out.printf("idle: %s, lag %d%n", event.getIdle().getBlockedOn(), event.getIdle().getLag());
        break;
      case GAP:
        // The retention of the topic has dropped records that the group had not acked.
        System.out.printf("records %d to %d are gone%n", event.getGap().getFirst(), event.getGap().getLast());
        break;
      case DRAINING:
        System.out.println("the broker is going away; subscribing again when it ends the stream");
        break;
      default:
        break;
    }
  }

  /** Your work. It may see a record again after a crash. */
  private static void handle(Batch batch) {
    for (DeliveredRecord delivered : batch.getRecordsList()) {
      System.out.printf(
          "%s/%d %d (attempt %d) %s: %s%n",
          batch.getTopic(),
          batch.getPartition(),
          delivered.getOffset(),
          delivered.getAttempt(),
          delivered.getRecord().getKey(),
          delivered.getRecord().getValue().toStringUtf8());
    }
  }

  /** Names exactly the records of the batch, in one entry with its partition and lane. */
  private void ack(Batch batch, long generation) {
    AckEntry.Builder entry =
        AckEntry.newBuilder()
            .setTopic(batch.getTopic())
            .setPartition(batch.getPartition())
            .setLane(batch.getLane());
    for (DeliveredRecord delivered : batch.getRecordsList()) {
      entry.addOffsets(delivered.getOffset());
    }
    AckRequest request =
        AckRequest.newBuilder()
            .setGroup(group)
            .setMemberId(memberId)
            .setGeneration(generation)
            .addAcks(entry)
            .build();
    for (AckResult result : broker.ack(request).getResultsList()) {
      // The partition has moved to another member meanwhile, which gets the records again.
      if (result.getStatus() != AckStatus.ACK_STATUS_OK) {
        System.out.printf("ack refused: %s%n", result.getStatus());
      }
    }
  }

  private static String numbers(List<TopicPartition> partitions) {
    return partitions.stream().map(each -> String.valueOf(each.getPartition())).collect(Collectors.joining(" "));
  }
}
