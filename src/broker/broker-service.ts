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

/** The hot path: records in, records out, acks. Each call on a group waits until it is loaded. */
export function brokerService(publisher: Publisher, delivery: Delivery) {
  return {
    publish(command: PublishCommand): Promise<PublishedRecords | null> {
      return publisher.publish(command);
    },

    async subscribe(caller: Caller, command: SubscribeCommand, sink: EventSink): Promise<MemberStream> {
      await delivery.loaded(command.group);
      return delivery.subscribe(caller.host, command, sink);
    },

    async pull(caller: Caller, command: PullCommand): Promise<PullOutcome> {
      await delivery.loaded(command.group);
      return delivery.pull(caller.host, command);
    },

    async ack(command: AckCommand): Promise<AckOutcome[]> {
      await delivery.loaded(command.group);
      return delivery.ack(command);
    },

    async heartbeat(command: HeartbeatCommand): Promise<HeartbeatOutcome> {
      await delivery.loaded(command.group);
      return delivery.membership.heartbeat(command);
    },
  };
}
