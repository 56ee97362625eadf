import type { BatchCodec } from '../log/batch.ts';
import { demandLog } from '../log/lanes.ts';
import type { Log } from '../log/log.ts';
import type { ReadMessagesCommand, ReadMessagesOutcome } from './commands.ts';
import { readMessages } from './read-messages.ts';
import type { Topics } from './topics.ts';

export function messageService(topics: Topics, log: Log, codec: BatchCodec) {
  return {
    async readMessages(command: ReadMessagesCommand): Promise<ReadMessagesOutcome> {
      const topic = await topics.opened(command.topic);
      const found = demandLog(topic.name, log.partitionLogs(topic.id), log.lanes(topic.id), command);
      return readMessages(command, found, codec);
    },
  };
}
