import { present } from '../../errors/present.ts';
import type { Admission } from '../groups/admission.ts';
import type { Groups } from '../groups/groups.ts';
import type { GroupModel } from '../groups/model.ts';
import type { OffsetRetention } from '../groups/offset-retention.ts';
import type { CalledInput, FoundSubscription } from '../groups/subscriptions.ts';
import type {
  CreateSubscriptionCommand,
  ListedSubscription,
  SubscriptionDetails,
  SubscriptionFilter,
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

  /** The subscriptions that the filter selects, ordered by id. */
  list({ group, topic, states }: SubscriptionFilter): readonly ListedSubscription[] {
    const groups = this.#groups.inMemory;
    const ofGroup = group === null ? null : groups.find(group)?.subscriptions.values();
    const found = ofGroup === null ? groups.subscriptions() : byId(ofGroup ?? []);
    if (topic === null && states.length === 0) return found;
    return found.filter(({ topicName, row }) => {
      return (topic === null || topicName === topic) && (states.length === 0 || states.includes(row.state));
    });
  }

  /** A subscription that `list` has just found. */
  details(listed: ListedSubscription): SubscriptionDetails {
    const group = this.#groups.inMemory.ofSubscription(listed);
    const { topicId } = listed.row;
    return detailsOf(group, present(group.subscriptions.get(topicId), 'a listed subscription is there'));
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_STATE if it is DEAD */
  pause(groupName: string, topicName: string): Promise<SubscriptionDetails> {
    return this.#change(groupName, topicName, { type: 'PAUSE' });
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_STATE if it is DEAD */
  resume(groupName: string, topicName: string): Promise<SubscriptionDetails> {
    return this.#change(groupName, topicName, { type: 'RESUME' });
  }

  /**
   * @param deadAfterMs null: it never dies.
   * @throws Rejection SUBSCRIPTION_NOT_FOUND
   */
  update(groupName: string, topicName: string, deadAfterMs: number | null): Promise<SubscriptionDetails> {
    return this.#change(groupName, topicName, { type: 'UPDATE', deadAfterMs });
  }

  /** @throws Rejection SUBSCRIPTION_NOT_FOUND */
  cancel(groupName: string, topicName: string): Promise<SubscriptionDetails> {
    return this.#using(groupName, topicName, async (found) => {
      const row = await this.#groups.subscriptions.cancel(found);
      return detailsOf(found.group, found.subscription, row);
    });
  }

  #change(groupName: string, topicName: string, input: CalledInput): Promise<SubscriptionDetails> {
    return this.#using(groupName, topicName, async (found) => {
      await this.#groups.subscriptions.change(found, input);
      return detailsOf(found.group, found.subscription);
    });
  }

  /** Runs `work` on the subscription, whose group is not deleted meanwhile. */
  #using<T>(groupName: string, topicName: string, work: (found: FoundSubscription) => Promise<T>): Promise<T> {
    const { subscriptions } = this.#groups;
    subscriptions.get(groupName, topicName);
    return this.#groups.within(groupName, () => work(subscriptions.get(groupName, topicName)));
  }
}

function viewOf(group: GroupModel, subscription: ActiveSubscription): SubscriptionView {
  return { subscription: detailsOf(group, subscription), logs: subscription.logs };
}

function detailsOf(group: GroupModel, subscription: ActiveSubscription, row = subscription.row): SubscriptionDetails {
  const { id, createdAtMs, state, stateReason, stateChangedAtMs, deadAfterMs, unattendedSinceMs } = row;
  const life = { state, stateReason, stateChangedAtMs, deadAfterMs, unattendedSinceMs };
  return { id, group: group.name, topic: subscription.topicName, createdAtMs, ...life };
}
