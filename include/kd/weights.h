/* SPDX-License-Identifier: MIT */
/*
 * Weights: the state_dict of a PyTorch module into a network of ours.
 *
 *     KD_TRY(kd_network_build(&arch, &sizes, 256, false, &net));
 *     KD_TRY(kd_weights_load("resnet20.safetensors", NULL, net->graph));
 *     ... kd_model_save makes a file of it that is a teacher ...
 *
 * A source of weights is one of
 *
 *     FILE                  .safetensors
 *     FILE, FILE:/GROUP     HDF5, one dataset an array, below the group; without one,
 *                           below /state_dict where there is such a group (a network
 *                           saved by kd-train is such a file), else in the whole file
 *     DIRECTORY             of NumPy's .npy, NAME.npy for each array
 *
 * with the names and shapes of the module's state_dict(), in float16, bfloat16,
 * float32 or float64; a slash in a name of HDF5 is a dot. Names lose the "module." of
 * DataParallel in front; the counters num_batches_tracked are passed over. PyTorch's
 * own .pt and .pth files are Python pickles, which run code when they are read: they
 * are refused. In Python,
 *
 *     for name, value in module.state_dict().items():
 *         file[name] = value.numpy()          (file = h5py.File("weights.h5", "w"))
 *
 * makes one of the above.
 *
 * Which modules have the names and layers of the families. Batch norms have PyTorch's
 * defaults; the layer norms of a vit have an epsilon of 1e-6.
 *
 *     resnet       conv1, bn1, layerS.I.{conv1, bn1, conv2, bn2, downsample.0,
 *                  downsample.1}, fc: the networks for CIFAR in RepDistiller (Tian et
 *                  al. 2020, CRD), resnet8 to resnet110, resnet8x4 and resnet32x4.
 *                  torchvision's blocks are the same; its networks have another stem
 *                  and four stages
 *     wrn          conv1, blockB.layer.I.{bn1, conv1, bn2, conv2, convShortcut}, bn1,
 *                  fc: RepDistiller, and WideResNet-pytorch, where it is from
 *     vgg          blockB.N, classifier: RepDistiller, with batch norm. torchvision's
 *                  features.N are the same layers, numbered without blocks
 *                  (vgg11_bn: features.0=block0.0, features.1=block0.1,
 *                  features.4=block1.0); its two last poolings and its three dense
 *                  layers are not
 *     mobilenetv2  conv1, blocks.S.I.conv.N, conv2, classifier.0: RepDistiller, with
 *                  ReLU and fewer strides. torchvision's is another network: ReLU6,
 *                  and no expansion in the first block
 *     shufflenetv2 conv1, bn1, layerS.I.{convN, bnN}, conv2, bn2, linear:
 *                  RepDistiller. torchvision's stages are the same layers
 *                  (stage2.0.branch1.0=layer1.0.conv1), behind another stem
 *     densenet     conv1, blockB.layer.I.{bn1, conv1}, transB.{bn1, conv1}, bn1, fc:
 *                  densenet-pytorch, basic blocks without compression, but with the
 *                  paper's 16 channels in front. torchvision's has bottlenecks
 *     vit          patch_embed.proj, pos_embed, blocks.I.{norm1, attn.qkv, attn.proj,
 *                  norm2, mlp.fc1, mlp.fc2}, norm, head: timm's VisionTransformer
 *                  with class_token=False, global_pool="avg", fc_norm=False
 *     plain        convI, bnI, fc1 (where there is a hidden layer), fc; the published
 *                  code calls them conv_layers.N and fc_layers.N
 *     mlp          fcI, bnI, fc
 */
#ifndef KD_WEIGHTS_H
#define KD_WEIGHTS_H

#include "kd/graph.h"
#include "kd/status.h"

/*
 * Loads every parameter and buffer of a graph that is planned, by name.
 *
 * `renames` is NULL or FROM=TO,...: an array called FROM, or FROM and more behind a
 * dot, is called TO instead; with nothing for TO it loses FROM and the dot. Of several
 * that fit, the first counts. "backbone=,linear=fc" makes linear.weight fc.weight.
 *
 * The bias of a convolution that in the graph has none, because a batch norm follows
 * it, is taken off that one's running mean, which comes to the same.
 *
 * KD_ENOINPUT, KD_EIO; KD_EUSAGE for renames that are none; KD_EDATA naming the first
 * arrays that are missing or that the graph has no place for, or the first one of
 * another type or shape, or with a value that is not finite; the graph may then hold
 * some of the values. */
enum kd_status kd_weights_load(const char *path, const char *renames,
                               struct kd_graph *graph) KD_CHECKED;

#endif
