import { create } from '@bufbuild/protobuf';
import {
  AddPartitionsResponseSchema,
  CreateTopicResponseSchema,
  DeleteTopicResponseSchema,
  GetTopicResponseSchema,
  ListTopicsResponseSchema,
  PartitionInfoSchema,
  UpdateTopicResponseSchema,
  type PartitionInfo,
  type TopicService,
} from '../../../gen/millrace/v1/topic_pb.js';
import type { PartitionExtent, TopicExtent } from '../../broker/commands.ts';
import type { HandlerContext, UnaryHandlers } from '../edge/call.ts';
import { pageRequest, wholePageRequest } from '../translation/commands.ts';
import { createTopicCommand, topicMessage, updateTopicCommand } from './topic-settings.ts';
import { topicStorageResponse } from './topic-storage.ts';

export function topicService({
  services,
  validation,
  defaultRetentionMs,
}: HandlerContext): UnaryHandlers<typeof TopicService> {
  return {
    async createTopic(_call, request) {
      validation.createTopic(request);
      const topic = await services().topic.createTopic(createTopicCommand(request, defaultRetentionMs));
      return create(CreateTopicResponseSchema, { topic: topicMessage(topic) });
    },

    async getTopic(_call, request) {
      validation.getTopic(request);
      const extent = await services().topic.getTopic(request.name, wholePageRequest(request));
      return create(GetTopicResponseSchema, topicExtent(extent));
    },

    async getTopicStorage(_call, request) {
      validation.getTopicStorage(request);
      const shown = await services().topic.getTopicStorage(request.name, pageRequest(request));
      return topicStorageResponse(shown);
    },

    async updateTopic(_call, request) {
      validation.updateTopic(request);
      const topic = await services().topic.updateTopic(updateTopicCommand(request, defaultRetentionMs));
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

function topicExtent({ topic, partitions: { items, nextToken } }: TopicExtent) {
  return { topic: topicMessage(topic), partitions: items.map(partitionInfo), nextPageToken: nextToken };
}

function partitionInfo(extent: PartitionExtent): PartitionInfo {
  return create(PartitionInfoSchema, {
    partition: extent.partition,
    lane: extent.lane,
    logStartOffset: BigInt(extent.logStartOffset),
    highWatermark: BigInt(extent.highWatermark),
    watermark: BigInt(extent.watermark),
  });
}
