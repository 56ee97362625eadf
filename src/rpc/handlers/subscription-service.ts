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
import type { SubscriptionDetails, SubscriptionPage } from '../../broker/commands.ts';
import { textOrNull } from '../validation/defaults.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, startPosition, wholePageRequest } from '../translation/commands.ts';
import { partitionStatuses, timestamp } from '../translation/responses.ts';

export function subscriptionService({
  services,
  validation,
}: HandlerContext): UnaryHandlers<typeof SubscriptionService> {
  return {
    async createSubscription(_call, request) {
      validation.createSubscription(request);
      const { group, topic } = request;
      const command = { group, topic, start: startPosition(request.start) };
      const made = await services().subscription.createSubscription(command);
      return create(CreateSubscriptionResponseSchema, withCursors(made));
    },

    async getSubscription(_call, request) {
      validation.getSubscription(request);
      const { group, topic } = request;
      const found = await services().subscription.getSubscription(group, topic, wholePageRequest(request));
      return create(GetSubscriptionResponseSchema, withCursors(found));
    },

    async listSubscriptions(_call, request) {
      validation.listSubscriptions(request);
      const filter = { group: textOrNull(request.group), topic: textOrNull(request.topic) };
      const page = await services().subscription.listSubscriptions(filter, pageRequest(request));
      const subscriptions = page.items.map(subscriptionMessage);
      return create(ListSubscriptionsResponseSchema, { subscriptions, nextPageToken: page.nextToken });
    },

    async cancelSubscription(_call, request) {
      validation.cancelSubscription(request);
      const ended = await services().subscription.cancelSubscription(request.group, request.topic);
      return create(CancelSubscriptionResponseSchema, { subscription: subscriptionMessage(ended) });
    },
  };
}

function withCursors({ subscription, partitions }: SubscriptionPage) {
  return {
    subscription: subscriptionMessage(subscription),
    partitions: partitionStatuses(partitions.items),
    nextPageToken: partitions.nextToken,
  };
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
