#!/usr/bin/env node
// Makes letters large: nsp daemon --function Text.Upper=upper.js, then nsp call Text Upper '"abc"'
let text = '';
process.stdin.on('data', (piece) => (text += piece));
process.stdin.on('end', () => {
  const asked = JSON.parse(text);
  if (typeof asked !== 'string') {
    console.error('not a text:', asked); // a line of the daemon's log; the caller is told the status
    process.exit(3);
  }
  console.log(JSON.stringify(asked.toUpperCase()));
});
