#!/usr/bin/env node
// A service as a program, in Node: one JSON object a line, in and out.
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
let count = 0;

const functions = {
  add: ({ data }) => {
    if (typeof data !== 'number') throw { code: 'bad_argument', message: 'add takes a number' };
    count += data;
    say({ op: 'event', name: 'count', data: count, to: { any: ['room'] } });
    return count;
  },
  join: ({ entity }) => {
    say({ op: 'join', entity, groups: ['room'] });
    return null;
  },
  reset: () => (count = 0),
  crash: () => process.exit(7),
};

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (text) => {
    const line = JSON.parse(text);
    if (line.op === 'stop') process.exit(0);
    if (line.op !== 'call') return;
    try {
      say({ op: 'answer', id: line.id, data: functions[line.function](line) });
    } catch (error) {
      say({ op: 'answer', id: line.id, error: { code: error.code || 'failed', message: error.message } });
    }
  });
say({ op: 'ready' });
