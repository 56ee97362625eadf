import { create } from '@bufbuild/protobuf';
import {
  CancelSubscriptionResponseSchema,
  CreateSubscriptionResponseSchema,
  GetSubscriptionResponseSchema,
  ListSubscriptionsResponseSchema,
  SubscriptionSchema,
  SubscriptionState,
  type Subscription,
  type SubscriptionService,
} from '../../../gen/millrace/v1/subscription_pb.js';
import type { SubscriptionDetails, SubscriptionWithCursors } from '../../broker/broker.ts';
import { textOrNull } from '../validation/defaults.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, startPosition } from '../translation/commands.ts';
import { partitionStatuses, timestamp } from '../translation/responses.ts';

export function subscriptionService({ broker, validation }: HandlerContext): UnaryHandlers<typeof SubscriptionService> {
  return {
    async createSubscription(call, request) {
      validation.createSubscription(request);
      const { group, topic } = request;
      const command = { group, topic, start: startPosition(request.start) };
      const made = await broker().createSubscription(call.caller, command);
      return create(CreateSubscriptionResponseSchema, withCursors(made));
    },

    async getSubscription(call, request) {
      validation.getSubscription(request);
      const found = await broker().getSubscription(call.caller, request.group, request.topic);
      return create(GetSubscriptionResponseSchema, withCursors(found));
    },

    async listSubscriptions(call, request) {
      validation.listSubscriptions(request);
      const filter = { group: textOrNull(request.group), topic: textOrNull(request.topic) };
      const page = await broker().listSubscriptions(call.caller, filter, pageRequest(request));
      const subscriptions = page.items.map(subscriptionMessage);
      return create(ListSubscriptionsResponseSchema, { subscriptions, nextPageToken: page.nextToken });
    },

    async cancelSubscription(call, request) {
      validation.cancelSubscription(request);
      const ended = await broker().cancelSubscription(call.caller, request.group, request.topic);
      return create(CancelSubscriptionResponseSchema, { subscription: subscriptionMessage(ended) });
    },
  };
}

function withCursors({ subscription, partitions }: SubscriptionWithCursors) {
  return { subscription: subscriptionMessage(subscription), partitions: partitionStatuses(partitions) };
}

function subscriptionMessage(subscription: SubscriptionDetails): Subscription {
  return create(SubscriptionSchema, {
    id: BigInt(subscription.id),
    group: subscription.group,
    topic: subscription.topic,
    state: SubscriptionState[subscription.state],
    createTime: timestamp(subscription.createdAtMs),
  });
}
