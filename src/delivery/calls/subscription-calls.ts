import { present } from '../../errors/present.ts';
import type { Admission } from '../groups/admission.ts';
import type { Groups } from '../groups/groups.ts';
import type { GroupModel } from '../groups/model.ts';
import type { OffsetRetention } from '../groups/offset-retention.ts';
import type {
  CreateSubscriptionCommand,
  ListedSubscription,
  SubscriptionDetails,
  SubscriptionView,
} from '../ports/subscriptions.ts';
import { byId, type ActiveSubscription } from '../subscriptions/subscription.ts';

/** The calls that create, show, list and cancel subscriptions. */
export class SubscriptionCalls {
  readonly #groups: Groups;
  readonly #admission: Admission;
  readonly #retention: OffsetRetention;

  constructor(groups: Groups, admission: Admission, retention: OffsetRetention) {
    this.#groups = groups;
    this.#admission = admission;
    this.#retention = retention;
  }

  async create(command: CreateSubscriptionCommand): Promise<SubscriptionView> {
    const { group, subscription } = await this.#admission.createSubscription(command);
    this.#retention.touch(group);
    return viewOf(group, subscription);
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND */
  get(groupName: string, topicName: string): SubscriptionView {
    const { group, subscription } = this.#groups.subscriptions.get(groupName, topicName);
    return viewOf(group, subscription);
  }

  /** The active subscriptions that the filter selects, ordered by id. */
  list(filter: { readonly group: string | null; readonly topic: string | null }): readonly ListedSubscription[] {
    const groups = this.#groups.inMemory;
    const ofGroup = filter.group === null ? null : groups.find(filter.group)?.subscriptions.values();
    const found = ofGroup === null ? groups.subscriptions() : byId(ofGroup ?? []);
    return filter.topic === null ? found : found.filter(({ topicName }) => topicName === filter.topic);
  }

  /** A subscription that `list` has just found. */
  details(listed: ListedSubscription): SubscriptionDetails {
    const group = this.#groups.inMemory.ofSubscription(listed);
    const { topicId } = listed.row;
    return detailsOf(group, present(group.subscriptions.get(topicId), 'a listed subscription is there'));
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND */
  cancel(groupName: string, topicName: string): Promise<SubscriptionDetails> {
    const { subscriptions } = this.#groups;
    subscriptions.get(groupName, topicName);
    return this.#groups.within(groupName, async () => {
      const found = subscriptions.get(groupName, topicName);
      await subscriptions.cancel(found);
      return detailsOf(found.group, found.subscription, 'CANCELLED');
    });
  }
}

function viewOf(group: GroupModel, subscription: ActiveSubscription): SubscriptionView {
  return { subscription: detailsOf(group, subscription), logs: subscription.logs };
}

function detailsOf(
  group: GroupModel,
  subscription: ActiveSubscription,
  state: SubscriptionDetails['state'] = 'ACTIVE',
): SubscriptionDetails {
  const { row, topicName } = subscription;
  return { id: row.id, group: group.name, topic: topicName, state, createdAtMs: row.createdAtMs };
}
