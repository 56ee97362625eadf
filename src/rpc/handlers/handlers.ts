import type { DescMethodUnary, DescService } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { brokerService, subscribeHandler, type SubscribeHandler } from './broker-service.ts';
import type { BytesHandler, Call, HandlerContext, UnaryHandler } from '../edge/call.ts';
import { groupService } from './group-service.ts';
import { messageService } from './message-service.ts';
import { commitOffsetsOfBytes } from './offsets.ts';
import { publishHandler, type PublishHandler } from './publish.ts';
import { PublishStream, type PublishStreamOutput } from './publish-stream.ts';
import { subscriptionService } from './subscription-service.ts';
import { topicService } from './topic-service.ts';

/** All services that both edges serve. */
export const services: readonly DescService[] = [
  BrokerService,
  TopicService,
  SubscriptionService,
  GroupService,
  MessageService,
];

/** Everything that the edges serve; the edges only adapt it to their transport. */
export interface Handlers {
  readonly publish: PublishHandler;
  readonly publishStream: (call: Call, output: PublishStreamOutput) => PublishStream;
  readonly subscribe: SubscribeHandler;
  /** All other methods. */
  readonly unary: readonly UnaryMethod[];
}

export interface UnaryMethod {
  readonly method: DescMethodUnary;
  readonly handle: UnaryHandler<unknown, unknown>;
  /** Tried first for requests in protobuf; an edge may skip it. */
  readonly handleBytes: BytesHandler | null;
}

export function createHandlers(context: HandlerContext): Handlers {
  return {
    publish: publishHandler(context),
    publishStream: (call, output) => new PublishStream(call, context, output),
    subscribe: subscribeHandler(context),
    unary: [
      ...methods(BrokerService, brokerService(context)),
      ...methods(TopicService, topicService(context)),
      ...methods(SubscriptionService, subscriptionService(context)),
      ...methods(GroupService, groupService(context), { commitOffsets: commitOffsetsOfBytes(context) }),
      ...methods(MessageService, messageService(context)),
    ],
  };
}

function methods(
  service: DescService,
  handlers: object,
  ofBytes: Readonly<Record<string, BytesHandler>> = {},
): UnaryMethod[] {
  return Object.entries(handlers).map(([localName, handle]) => ({
    method: service.method[localName] as DescMethodUnary,
    handle: handle as UnaryMethod['handle'],
    handleBytes: ofBytes[localName] ?? null,
  }));
}
