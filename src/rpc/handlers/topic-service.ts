import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  AddPartitionsResponseSchema,
  CreateTopicResponseSchema,
  DeleteTopicResponseSchema,
  GetTopicResponseSchema,
  ListTopicsResponseSchema,
  PartitionInfoSchema,
  TopicSchema,
  TopicSemantics,
  UpdateTopicResponseSchema,
  type CreateTopicRequest,
  type PartitionInfo,
  type Topic,
  type TopicService,
  type UpdateTopicRequest,
} from '../../../gen/millrace/v1/topic_pb.js';
import type {
  CreateTopicCommand,
  PartitionExtent,
  TopicDetails,
  TopicExtent,
  UpdateTopicCommand,
} from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import { msOr, numberOr } from '../validation/defaults.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, wholePageRequest } from '../translation/commands.ts';
import { timestamp } from '../translation/responses.ts';

export function topicService({ services, validation }: HandlerContext): UnaryHandlers<typeof TopicService> {
  return {
    async createTopic(_call, request) {
      validation.createTopic(request);
      const topic = await services().topic.createTopic(createTopicCommand(request));
      return create(CreateTopicResponseSchema, { topic: topicMessage(topic) });
    },

    async getTopic(_call, request) {
      validation.getTopic(request);
      const extent = await services().topic.getTopic(request.name, wholePageRequest(request));
      return create(GetTopicResponseSchema, topicExtent(extent));
    },

    async updateTopic(_call, request) {
      validation.updateTopic(request);
      const topic = await services().topic.updateTopic(updateTopicCommand(request));
      return create(UpdateTopicResponseSchema, { topic: topicMessage(topic) });
    },

    async addPartitions(_call, request) {
      validation.addPartitions(request);
      const { name, partitions } = request;
      const extent = await services().topic.addPartitions({ name, partitions });
      return create(AddPartitionsResponseSchema, topicExtent(extent));
    },

    async listTopics(_call, request) {
      validation.listTopics(request);
      const page = await services().topic.listTopics(pageRequest(request));
      return create(ListTopicsResponseSchema, { topics: page.items.map(topicMessage), nextPageToken: page.nextToken });
    },

    async deleteTopic(_call, request) {
      validation.deleteTopic(request);
      await services().topic.deleteTopic(request.name);
      return create(DeleteTopicResponseSchema);
    },
  };
}

function createTopicCommand(request: CreateTopicRequest): CreateTopicCommand {
  const topic = request.topic ?? create(TopicSchema);
  return {
    name: topic.name,
    partitions: numberOr(topic.partitions, limits.partitionsDefault),
    idempotencyWindowMs: msOr(topic.idempotencyWindow, limits.idempotencyWindowMsDefault),
    description: topic.description,
  };
}

function updateTopicCommand(request: UpdateTopicRequest): UpdateTopicCommand {
  const topic = request.topic ?? create(TopicSchema);
  const paths = request.updateMask?.paths ?? [];
  const window = msOr(topic.idempotencyWindow, limits.idempotencyWindowMsDefault);
  return {
    name: topic.name,
    ...(paths.includes('idempotency_window') && { idempotencyWindowMs: window }),
    ...(paths.includes('description') && { description: topic.description }),
  };
}

function topicMessage(topic: TopicDetails): Topic {
  return create(TopicSchema, {
    name: topic.name,
    semantics: TopicSemantics.PUB_SUB,
    partitions: topic.partitions,
    idempotencyWindow: durationFromMs(topic.idempotencyWindowMs),
    description: topic.description,
    createTime: timestamp(topic.createdAtMs),
  });
}

function topicExtent({ topic, partitions: { items, nextToken } }: TopicExtent) {
  return { topic: topicMessage(topic), partitions: items.map(partitionInfo), nextPageToken: nextToken };
}

function partitionInfo(extent: PartitionExtent): PartitionInfo {
  return create(PartitionInfoSchema, {
    partition: extent.partition,
    lane: extent.lane,
    logStartOffset: BigInt(extent.logStartOffset),
    highWatermark: BigInt(extent.highWatermark),
  });
}
