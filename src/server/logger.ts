import { pino, type Logger } from 'pino';
import { prettyFactory } from 'pino-pretty';
import type { LogLevel } from '../config/table.ts';
import type { Output } from './output.ts';

/**
 * The log goes to stderr, so that stdout is free for requested output: JSON lines, or text on a
 * terminal. It does not use pino's destinations, because they hold unread lines without a limit and
 * retry for ever at the exit.
 */
export function createLogger(level: LogLevel, brokerId: string, output: Output): Logger {
  const toTerminal = output.isTerminal;
  const options = { level, base: toTerminal ? {} : { broker: brokerId } };
  const asText = prettyFactory({ translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname' });
  const log = pino(options, {
    write(line: string) {
      output.write(toTerminal ? asText(line) : line);
    },
  });
  output.onResume = (droppedLines) => {
    log.warn({ droppedLines }, 'nobody read the log for a while: lines of it were dropped');
  };
  return log;
}
