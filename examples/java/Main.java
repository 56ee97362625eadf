import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.concurrent.TimeUnit;

/** Publishes and consumes: Main publish [TOPIC] [COUNT], and Main subscribe [TOPIC] [GROUP] [COUNT]. */
final class Main {
  public static void main(String[] arguments) throws Exception {
    String address = System.getenv().getOrDefault("MILLRACE_ADDRESS", "127.0.0.1:50051");
    // No window is set here: gRPC for Java adapts its windows to the bandwidth.
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      String topic = argument(arguments, 1, "orders");
      switch (argument(arguments, 0, "")) {
        case "publish":
          Publisher.publish(channel, topic, Integer.parseInt(argument(arguments, 2, "10")));
          break;
        case "subscribe":
          long wanted = Long.parseLong(argument(arguments, 3, String.valueOf(Long.MAX_VALUE)));
          new Consumer(channel, topic, argument(arguments, 2, "billing"), wanted).run();
          break;
        default:
          System.err.println("usage: Main publish [TOPIC] [COUNT] | Main subscribe [TOPIC] [GROUP] [COUNT]");
          System.exit(64);
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static String argument(String[] arguments, int index, String otherwise) {
    return arguments.length > index ? arguments[index] : otherwise;
  }
}
