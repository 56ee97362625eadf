import type {
  AddPartitionsCommand,
  CreateTopicCommand,
  TopicDetails,
  TopicExtent,
  UpdateTopicCommand,
} from './commands.ts';
import type { Page, PageRequest } from './paging.ts';
import type { Topics } from './topics.ts';

export function topicService(topics: Topics) {
  return {
    createTopic(command: CreateTopicCommand): Promise<TopicDetails> {
      return topics.create(command);
    },

    async getTopic(name: string, page: PageRequest): Promise<TopicExtent> {
      return topics.get(name, page);
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
