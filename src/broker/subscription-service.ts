import type { Delivery } from '../delivery/delivery.ts';
import type { Log } from '../log/log.ts';
import type { Clock } from '../time/clock.ts';
import type {
  CreateSubscriptionCommand,
  ListedLog,
  ListedSubscription,
  SubscriptionDetails,
  SubscriptionFilter,
  SubscriptionPage,
  SubscriptionView,
} from './commands.ts';
import { partitionStatusBytes, subscriptionBytes } from './entry-bytes.ts';
import { firstPage, pageOf, type Page, type PageRequest } from './pages/paging.ts';
import { withAges } from './record-ages.ts';

/** Each call on a group waits until it is loaded. */
export function subscriptionService(delivery: Delivery, log: Log, clock: Clock) {
  return {
    async createSubscription(command: CreateSubscriptionCommand): Promise<SubscriptionPage> {
      await delivery.loaded(command.group);
      return shown(await delivery.subscriptions.create(command), firstPage);
    },

    async getSubscription(group: string, topic: string, page: PageRequest): Promise<SubscriptionPage> {
      await delivery.loaded(group);
      const { subscription, partitions } = shown(delivery.subscriptions.get(group, topic), page);
      return { subscription, partitions: { ...partitions, items: await withAges(partitions.items, log, clock) } };
    },

    async listSubscriptions(filter: SubscriptionFilter, page: PageRequest): Promise<Page<SubscriptionDetails>> {
      await delivery.allLoaded();
      const items = delivery.subscriptions.list(filter);
      const entryOf = (listed: ListedSubscription): SubscriptionDetails => delivery.subscriptions.details(listed);
      return pageOf({ items, keyOf: ({ row }) => [row.id], entryOf, bytesOf: subscriptionBytes }, page);
    },

    /** @param deadAfterMs null: it never dies. */
    async updateSubscription(group: string, topic: string, deadAfterMs: number | null): Promise<SubscriptionDetails> {
      await delivery.loaded(group);
      return delivery.subscriptions.update(group, topic, deadAfterMs);
    },

    async pauseSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
      await delivery.loaded(group);
      return delivery.subscriptions.pause(group, topic);
    },

    async resumeSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
      await delivery.loaded(group);
      return delivery.subscriptions.resume(group, topic);
    },

    async cancelSubscription(group: string, topic: string): Promise<SubscriptionDetails> {
      await delivery.loaded(group);
      return delivery.subscriptions.cancel(group, topic);
    },
  };
}

function shown({ subscription, logs }: SubscriptionView, page: PageRequest): SubscriptionPage {
  const keyOf = ({ key: { partition, lane } }: ListedLog): number[] => [partition, lane];
  const entryOf = (log: ListedLog) => log.status();
  return { subscription, partitions: pageOf({ items: logs, keyOf, entryOf, bytesOf: partitionStatusBytes }, page) };
}
