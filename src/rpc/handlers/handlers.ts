import type { DescMethodUnary, DescService } from '@bufbuild/protobuf';
import { servedServices } from '../edge/actions.ts';
import { checked } from '../edge/caller.ts';
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
export const services: readonly DescService[] = Object.values(servedServices);

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

/** The handlers of all RPCs, each wrapped in the check of its caller. */
export function createHandlers(context: HandlerContext): Handlers {
  const { BrokerService, TopicService, SubscriptionService, GroupService, MessageService } = servedServices;
  const { publish, publishStream, subscribe } = BrokerService.method;
  const { authorize } = context;
  const stream = checked(publishStream, authorize, (_call, opened: PublishStream) => opened);
  return {
    publish: checked(publish, authorize, publishHandler(context)),
    publishStream(call, output) {
      const opened = new PublishStream(context, output);
      const refused = stream(call, opened);
      if (refused instanceof Promise)
        refused.catch((error: unknown) => {
          opened.refuse(error as Error);
        });
      return opened;
    },
    subscribe: checked(subscribe, authorize, subscribeHandler(context)),
    unary: [
      ...methods(context, BrokerService, brokerService(context)),
      ...methods(context, TopicService, topicService(context)),
      ...methods(context, SubscriptionService, subscriptionService(context)),
      ...methods(context, GroupService, groupService(context), { commitOffsets: commitOffsetsOfBytes(context) }),
      ...methods(context, MessageService, messageService(context)),
    ],
  };
}

function methods(
  { authorize }: HandlerContext,
  service: DescService,
  handlers: object,
  ofBytes: Readonly<Record<string, BytesHandler>> = {},
): UnaryMethod[] {
  return Object.entries(handlers).map(([localName, handle]) => {
    const method = service.method[localName] as DescMethodUnary;
    const handleBytes = ofBytes[localName];
    return {
      method,
      handle: checked(method, authorize, handle as UnaryMethod['handle']),
      handleBytes: handleBytes === undefined ? null : checked(method, authorize, handleBytes),
    };
  });
}
