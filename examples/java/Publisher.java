import com.google.protobuf.ByteString;
import com.millrace.v1.BrokerServiceGrpc;
import com.millrace.v1.CreateTopicRequest;
import com.millrace.v1.PublishRequest;
import com.millrace.v1.PublishResult;
import com.millrace.v1.Record;
import com.millrace.v1.Topic;
import com.millrace.v1.TopicServiceGrpc;
import io.grpc.Channel;
import io.grpc.StatusRuntimeException;
import java.util.UUID;

final class Publisher {
  /**
   * Makes the topic if need be and publishes records in one request, which is one transaction: all of
   * them or none. Records of one key stay in order.
   */
  static void publish(Channel channel, String topic, int count) {
    createTopic(channel, topic);
    PublishRequest.Builder request = PublishRequest.newBuilder().setTopic(topic);
    for (int i = 0; i < count; i++) {
      request.addRecords(
          Record.newBuilder()
              .setKey("customer-" + i % 3)
              .setValue(ByteString.copyFromUtf8("order " + i))
              .putHeaders("type", "OrderPlaced")
              // Makes it safe to send this request again when its outcome is unknown.
              .setIdempotencyKey(UUID.randomUUID().toString()));
    }
    for (PublishResult result : BrokerServiceGrpc.newBlockingStub(channel).publish(request.build()).getResultsList()) {
      System.out.printf("published to %s/%d at %d%n", topic, result.getPartition(), result.getOffset());
    }
  }

  private static void createTopic(Channel channel, String name) {
    Topic topic = Topic.newBuilder().setName(name).setPartitions(6).build();
    try {
      TopicServiceGrpc.newBlockingStub(channel).createTopic(CreateTopicRequest.newBuilder().setTopic(topic).build());
    } catch (StatusRuntimeException error) {
      if (!Reason.of(error).equals("TOPIC_EXISTS")) {
        throw error;
      }
      System.out.printf("%s: publishing to the topic that exists%n", Reason.of(error));
    }
  }

  private Publisher() {}
}
