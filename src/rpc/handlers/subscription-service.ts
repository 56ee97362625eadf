import { create } from '@bufbuild/protobuf';
import {
  CancelSubscriptionResponseSchema,
  CreateSubscriptionResponseSchema,
  GetSubscriptionResponseSchema,
  ListSubscriptionsResponseSchema,
  PauseSubscriptionResponseSchema,
  ResumeSubscriptionResponseSchema,
  UpdateSubscriptionResponseSchema,
  type SubscriptionService,
} from '../../../gen/millrace/v1/subscription_pb.js';
import type { SubscriptionPage } from '../../broker/commands.ts';
import { given } from '../validation/defaults.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, startPosition, wholePageRequest } from '../translation/commands.ts';
import { partitionStatuses } from '../translation/responses.ts';
import { deadAfterMs, subscriptionFilter, subscriptionMessage } from './subscriptions.ts';

export function subscriptionService({
  services,
  validation,
}: HandlerContext): UnaryHandlers<typeof SubscriptionService> {
  return {
    async createSubscription(_call, request) {
      validation.createSubscription(request);
      const { group, topic } = request;
      const start = startPosition(request.start);
      const command = { group, topic, start, deadAfterMs: deadAfterMs(request.death) };
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
      const filter = subscriptionFilter(request);
      const page = await services().subscription.listSubscriptions(filter, pageRequest(request));
      const subscriptions = page.items.map(subscriptionMessage);
      return create(ListSubscriptionsResponseSchema, { subscriptions, nextPageToken: page.nextToken });
    },

    async updateSubscription(_call, request) {
      validation.updateSubscription(request);
      const { group, topic, death } = given(request.subscription);
      // Each path of the mask means the one setting that can change.
      const changed = await services().subscription.updateSubscription(group, topic, deadAfterMs(death));
      return create(UpdateSubscriptionResponseSchema, { subscription: subscriptionMessage(changed) });
    },

    async pauseSubscription(_call, request) {
      validation.pauseSubscription(request);
      const paused = await services().subscription.pauseSubscription(request.group, request.topic);
      return create(PauseSubscriptionResponseSchema, { subscription: subscriptionMessage(paused) });
    },

    async resumeSubscription(_call, request) {
      validation.resumeSubscription(request);
      const resumed = await services().subscription.resumeSubscription(request.group, request.topic);
      return create(ResumeSubscriptionResponseSchema, { subscription: subscriptionMessage(resumed) });
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
