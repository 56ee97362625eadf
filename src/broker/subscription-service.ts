import type { Delivery } from '../delivery/delivery.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import type { CreateSubscriptionCommand, SubscriptionDetails, SubscriptionWithCursors } from './commands.ts';
import { pageOf, type Page, type PageRequest } from './paging.ts';
import { withAges } from './record-ages.ts';

export function subscriptionService(delivery: Delivery, log: Log, clock: Clock) {
  return {
    createSubscription(command: CreateSubscriptionCommand): Promise<SubscriptionWithCursors> {
      return delivery.createSubscription(command);
    },

    async getSubscription(group: string, topic: string): Promise<SubscriptionWithCursors> {
      const found = delivery.getSubscription(group, topic);
      return { ...found, partitions: await withAges(found.partitions, log, clock) };
    },

    async listSubscriptions(
      filter: { readonly group: string | null; readonly topic: string | null },
      page: PageRequest,
    ): Promise<Page<SubscriptionDetails>> {
      return pageOf(delivery.listSubscriptions(filter), (subscription) => subscription.id, page);
    },

    cancelSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
      return delivery.cancelSubscription(group, topic);
    },
  };
}
