import type { Delivery } from '../delivery/delivery.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import type { CreateSubscriptionCommand, SubscriptionDetails, SubscriptionWithCursors } from './commands.ts';
import { pageOf, type Page, type PageRequest } from './paging.ts';
import { withAges } from './record-ages.ts';

/** Each call on a group waits until it is loaded. */
export function subscriptionService(delivery: Delivery, log: Log, clock: Clock) {
  return {
    async createSubscription(command: CreateSubscriptionCommand): Promise<SubscriptionWithCursors> {
      await delivery.loaded(command.group);
      return delivery.createSubscription(command);
    },

    async getSubscription(group: string, topic: string): Promise<SubscriptionWithCursors> {
      await delivery.loaded(group);
      const found = delivery.getSubscription(group, topic);
      return { ...found, partitions: await withAges(found.partitions, log, clock) };
    },

    async listSubscriptions(
      filter: { readonly group: string | null; readonly topic: string | null },
      page: PageRequest,
    ): Promise<Page<SubscriptionDetails>> {
      await delivery.allLoaded();
      return pageOf(delivery.listSubscriptions(filter), (subscription) => subscription.id, page);
    },

    async cancelSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
      await delivery.loaded(group);
      return delivery.cancelSubscription(group, topic);
    },
  };
}
