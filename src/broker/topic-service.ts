import type {
  AddPartitionsCommand,
  CreateTopicCommand,
  TopicDetails,
  TopicExtent,
  TopicStorage,
  UpdateTopicCommand,
} from './commands.ts';
import { topicNotFound } from '../errors/rejections/topics.ts';
import type { Page, PageRequest } from './pages/paging.ts';
import { topicStorage, type StorageSource } from './pages/topic-storage.ts';
import type { Topics } from './topics.ts';

export function topicService(topics: Topics, storage: StorageSource) {
  return {
    createTopic(command: CreateTopicCommand): Promise<TopicDetails> {
      return topics.create(command);
    },

    getTopic(name: string, page: PageRequest): Promise<TopicExtent> {
      return topics.get(name, page);
    },

    /** A deleted topic has an answer while its drops are kept. */
    async getTopicStorage(name: string, page: PageRequest): Promise<TopicStorage> {
      const shown = await topicStorage(storage, { id: topics.idOf(name), name }, page);
      if (shown === null) throw topicNotFound({ topic: name });
      return shown;
    },

    updateTopic(command: UpdateTopicCommand): Promise<TopicDetails> {
      return topics.update(command);
    },

    addPartitions(command: AddPartitionsCommand): Promise<TopicExtent> {
      return topics.addPartitions(command);
    },

    async listTopics(page: PageRequest): Promise<Page<TopicDetails>> {
      return topics.list(page);
    },

    deleteTopic(name: string): Promise<void> {
      return topics.delete(name);
    },
  };
}
