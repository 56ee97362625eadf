import { pino, type Logger } from 'pino';
import { PinoPretty } from 'pino-pretty';
import type { LogLevel } from '../config/table.ts';

/** The log goes to stderr, so that stdout is free for what a person asked for: JSON lines, or text on a terminal. */
export function createLogger(level: LogLevel, brokerId: string): Logger {
  const toTerminal = process.stderr.isTTY;
  const options = { level, base: toTerminal ? {} : { broker: brokerId } };
  const destination = toTerminal
    ? PinoPretty({ destination: 2, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname' })
    : pino.destination({ fd: 2, sync: false });
  return pino(options, destination);
}
