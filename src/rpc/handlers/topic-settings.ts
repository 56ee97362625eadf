import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  RetentionSchema,
  TopicSchema,
  TopicSemantics,
  ZeroSubscriptionsSchema,
  type Retention,
  type Topic,
  type UpdateTopicRequest,
  type ZeroSubscriptions,
} from '../../../gen/millrace/v1/topic_pb.js';
import type { CreateTopicCommand, TopicDetails, UpdateTopicCommand } from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import type { RetentionSettings } from '../../retention/settings.ts';
import { msOr, numberOr } from '../validation/defaults.ts';
import { settingsIn, topicMask } from '../validation/masks.ts';
import { timestamp } from '../translation/responses.ts';

/** The settings of a topic, in requests and in answers. */

export function createTopicCommand(
  { topic = create(TopicSchema) }: { readonly topic?: Topic | undefined },
  defaultRetentionMs: number | null,
): CreateTopicCommand {
  return {
    name: topic.name,
    partitions: numberOr(topic.partitions, limits.partitionsDefault),
    idempotencyWindowMs: msOr(topic.idempotencyWindow, limits.idempotencyWindowMsDefault),
    description: topic.description,
    retention: retentionOf(topic, defaultRetentionMs),
  };
}

/** Has what the mask names. A field of it that the topic leaves unset gets its default. */
export function updateTopicCommand(
  { topic = create(TopicSchema), updateMask }: UpdateTopicRequest,
  defaultRetentionMs: number | null,
): UpdateTopicCommand {
  const named: ReadonlySet<string> = settingsIn(topicMask, updateMask);
  const settings = Object.entries(retentionOf(topic, defaultRetentionMs));
  const retention: Partial<RetentionSettings> = Object.fromEntries(settings.filter(([setting]) => named.has(setting)));
  const { idempotencyWindowMs, description } = createTopicCommand({ topic }, defaultRetentionMs);
  return {
    name: topic.name,
    ...(named.has('idempotencyWindowMs') && { idempotencyWindowMs }),
    ...(named.has('description') && { description }),
    ...(Object.keys(retention).length > 0 && { retention }),
  };
}

/** What the topic says of its retention; a field that it leaves unset has its default. */
function retentionOf({ retention, zeroSubscriptions }: Topic, defaultRetentionMs: number | null): RetentionSettings {
  return {
    afterCompletionMs: afterCompletionMs(retention?.completion, defaultRetentionMs),
    excusedKeepMs: msOr(retention?.excusedKeepFor, limits.excusedKeepMsDefault),
    maxAgeMs: msOr(retention?.maxAge, null),
    maxBytes: retention?.maxBytes === undefined ? null : Number(retention.maxBytes),
    keepUnsubscribedMs: keepUnsubscribedMs(zeroSubscriptions?.policy),
  };
}

function afterCompletionMs(completion: Retention['completion'] | undefined, whenUnset: number | null): number | null {
  switch (completion?.case) {
    case 'afterCompletion':
      return msOr(completion.value, whenUnset);
    case 'keepForever':
      return null;
    default:
      return whenUnset;
  }
}

function keepUnsubscribedMs(policy: ZeroSubscriptions['policy'] | undefined): number | null {
  switch (policy?.case) {
    case 'keepFor':
      return msOr(policy.value, limits.keepUnsubscribedMsDefault);
    case 'refusePublish':
      return null;
    default:
      return limits.keepUnsubscribedMsDefault;
  }
}

export function topicMessage(topic: TopicDetails): Topic {
  return create(TopicSchema, {
    name: topic.name,
    semantics: TopicSemantics.PUB_SUB,
    partitions: topic.partitions,
    idempotencyWindow: durationFromMs(topic.idempotencyWindowMs),
    description: topic.description,
    createTime: timestamp(topic.createdAtMs),
    retention: retentionMessage(topic.retention),
    zeroSubscriptions: zeroSubscriptionsMessage(topic.retention),
  });
}

function retentionMessage({ afterCompletionMs, excusedKeepMs, maxAgeMs, maxBytes }: RetentionSettings): Retention {
  return create(RetentionSchema, {
    completion:
      afterCompletionMs === null
        ? { case: 'keepForever', value: true }
        : { case: 'afterCompletion', value: durationFromMs(afterCompletionMs) },
    excusedKeepFor: durationFromMs(excusedKeepMs),
    ...(maxAgeMs !== null && { maxAge: durationFromMs(maxAgeMs) }),
    ...(maxBytes !== null && { maxBytes: BigInt(maxBytes) }),
  });
}

function zeroSubscriptionsMessage({ keepUnsubscribedMs }: RetentionSettings): ZeroSubscriptions {
  return create(ZeroSubscriptionsSchema, {
    policy:
      keepUnsubscribedMs === null
        ? { case: 'refusePublish', value: true }
        : { case: 'keepFor', value: durationFromMs(keepUnsubscribedMs) },
  });
}
