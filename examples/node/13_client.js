// A client in Node with the npm package nossock, which knows nothing of services: NSP over `nsp://` is named messages.
//
//   npm install nossock@0.0.10
//   cargo run -p examples --bin 08_nsp_daemon -- nsp://127.0.0.1:43580
//   node examples/node/13_client.js 43580
'use strict';
const nossock = require('nossock');

const port = Number(process.argv[2]);
const socket = nossock.createClient('tcp', { port, host: '127.0.0.1' }, () => {
    // CE: create an entity of the service. `t` is ours, and comes back with the answer.
    socket.send('CSrq', { m: 'CE', d: { t: '1', o: '', m: 'normal', s: 'Chat', od: '', k: false } });
});

let entity;

// What we asked for.
socket.on('CSrs', ({ m, d }) => {
    switch (m) {
        case 'CE':
            entity = d.i;
            socket.send('CSrq', { m: 'VE', d: { i: entity } }); // the service looks at us
            break;
        case 'VE':
            socket.send('CSrq', { m: 'SF', d: { i: entity, n: 'Hello', t: '2', d: { name: 'Node' } } });
            break;
        case 'SF':
            if (d.t === '2') {
                console.log(`${d.s}: ${d.d.text}`);
                socket.send('CSrq', { m: 'SF', d: { i: entity, n: 'Say', t: '3', d: 'Hello from Node' } });
            } else {
                console.log(`${d.s}: heard by ${d.d}`);
                socket.send('CSrq', { m: 'CS', d: { i: entity } }); // close the entity
                socket.end();
            }
    }
});

// What the service says by itself: here the event `message`.
socket.on('CArq', ({ m, d }) => {
    console.log(`${m} ${d.n}: ${d.d}`);
    socket.send('CArs', { m, d: { i: d.i, s: 'OK' } });
});

socket.on('error', (error) => {
    console.error(error.message);
    process.exitCode = 1;
});
