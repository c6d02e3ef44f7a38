"""NetDef models of Caffe2: init_net.pb makes the weights, predict_net.pb is the network (caffe2.proto)."""
