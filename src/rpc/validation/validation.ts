import type { FieldViolation } from '../../errors/rejections/rejection.ts';
import { invalidFields } from '../../errors/rejections/requests.ts';
import { limits, type TunableLimits } from '../../limits/limits.ts';
import { ackRule, heartbeatRule, pullRule, subscribeRule } from './broker-rules.ts';
import {
  deleteGroupRule,
  getGroupRule,
  joinGroupRule,
  leaveGroupRule,
  listGroupsRule,
  listMembersRule,
  listRebalancesRule,
  syncGroupRule,
} from './group-rules.ts';
import { readMessagesRule } from './message-rules.ts';
import { commitOffsetsRule, fetchOffsetsRule, resetOffsetsRule } from './offset-rules.ts';
import { partitionLogRule, startPositionRule, topicPartitionRule } from './record-rules.ts';
import type { Rule, RuledFields } from './rule.ts';
import {
  cancelSubscriptionRule,
  createSubscriptionRule,
  getSubscriptionRule,
  listSubscriptionsRule,
  pauseSubscriptionRule,
  resumeSubscriptionRule,
  updateSubscriptionRule,
} from './subscription-rules.ts';
import {
  addPartitionsRule,
  createTopicRule,
  deleteTopicRule,
  getTopicRule,
  getTopicStorageRule,
  listTopicsRule,
  updateTopicRule,
} from './topic-rules.ts';

/**
 * Checks a request against the rules of its type.
 * @throws Rejection INVALID_FIELD with every wrong field, the first few of them.
 */
type Validate<M> = (request: M) => void;

/** The rules of all calls but Publish and PublishStream, which the scan of their bytes checks. */
export function createValidation(tunable: Pick<TunableLimits, 'partitionsMax'>) {
  const ruled: RuledFields = new Map();
  const start = startPositionRule(ruled, tunable.partitionsMax);
  const topicPartition = topicPartitionRule(ruled);
  const partitionLog = partitionLogRule(ruled);
  return {
    ruled,
    subscribe: validate(subscribeRule(ruled, start)),
    pull: validate(pullRule(ruled, start)),
    ack: validate(ackRule(ruled)),
    heartbeat: validate(heartbeatRule(ruled, topicPartition)),
    joinGroup: validate(joinGroupRule(ruled, start)),
    syncGroup: validate(syncGroupRule(ruled, topicPartition)),
    leaveGroup: validate(leaveGroupRule(ruled)),
    getGroup: validate(getGroupRule(ruled)),
    listGroups: validate(listGroupsRule(ruled)),
    deleteGroup: validate(deleteGroupRule(ruled)),
    commitOffsets: validate(commitOffsetsRule(ruled)),
    fetchOffsets: validate(fetchOffsetsRule(ruled, partitionLog)),
    resetOffsets: validate(resetOffsetsRule(ruled, partitionLog)),
    listMembers: validate(listMembersRule(ruled)),
    listRebalances: validate(listRebalancesRule(ruled)),
    createTopic: validate(createTopicRule(ruled, tunable.partitionsMax)),
    getTopic: validate(getTopicRule(ruled)),
    getTopicStorage: validate(getTopicStorageRule(ruled)),
    updateTopic: validate(updateTopicRule(ruled, tunable.partitionsMax)),
    addPartitions: validate(addPartitionsRule(ruled, tunable.partitionsMax)),
    listTopics: validate(listTopicsRule(ruled)),
    deleteTopic: validate(deleteTopicRule(ruled)),
    createSubscription: validate(createSubscriptionRule(ruled, start)),
    getSubscription: validate(getSubscriptionRule(ruled)),
    listSubscriptions: validate(listSubscriptionsRule(ruled)),
    updateSubscription: validate(updateSubscriptionRule(ruled)),
    pauseSubscription: validate(pauseSubscriptionRule(ruled)),
    resumeSubscription: validate(resumeSubscriptionRule(ruled)),
    cancelSubscription: validate(cancelSubscriptionRule(ruled)),
    readMessages: validate(readMessagesRule(ruled)),
  };
}

export type Validation = ReturnType<typeof createValidation>;

function validate<M>(rule: Rule<M>): Validate<M> {
  return (request) => {
    const violations: FieldViolation[] = [];
    rule(request, '', (field, description) => {
      if (violations.length < limits.errorViolationsMax) violations.push({ field, description });
    });
    const [first, ...others] = violations;
    if (first !== undefined) throw invalidFields([first, ...others]);
  };
}
