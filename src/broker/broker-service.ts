import type { Publisher } from '../commit/publisher.ts';
import type { Delivery } from '../delivery/delivery.ts';
import type { EventSink, MemberStream } from '../delivery/ports/session.ts';
import type { Caller } from './caller.ts';
import type {
  AckCommand,
  AckOutcome,
  HeartbeatCommand,
  HeartbeatOutcome,
  PublishCommand,
  PublishedRecords,
  PullCommand,
  PullOutcome,
  SubscribeCommand,
} from './commands.ts';

/** The hot path: publishes, deliveries and acks. */
export function brokerService(publisher: Publisher, delivery: Delivery) {
  return {
    publish(command: PublishCommand): Promise<PublishedRecords | null> {
      return publisher.publish(command);
    },

    subscribe(caller: Caller, command: SubscribeCommand, sink: EventSink): Promise<MemberStream> {
      return delivery.subscribe(caller.host, command, sink);
    },

    pull(caller: Caller, command: PullCommand): Promise<PullOutcome> {
      return delivery.pull(caller.host, command);
    },

    ack(command: AckCommand): Promise<AckOutcome[]> {
      return delivery.ack(command);
    },

    async heartbeat(command: HeartbeatCommand): Promise<HeartbeatOutcome> {
      return delivery.membership.heartbeat(command);
    },
  };
}
